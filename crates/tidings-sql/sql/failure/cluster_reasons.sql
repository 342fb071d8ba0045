SELECT l.number, l.reason
FROM ({numbers}) AS listed JOIN tidings_dead_letter AS l ON l.number = listed.id
