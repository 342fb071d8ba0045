SELECT (SELECT MIN(p.id) FROM tidings_parked AS p WHERE p.consumer = l.consumer AND p.lane = l.lane)
FROM ({texts}) AS listed JOIN tidings_dead_letter AS l ON l.id = listed.id
