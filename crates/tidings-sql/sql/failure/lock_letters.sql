SELECT l.id, l.status, l.redrives
FROM ({texts}) AS listed JOIN tidings_dead_letter AS l ON l.id = listed.id
ORDER BY l.number
{for_update}
