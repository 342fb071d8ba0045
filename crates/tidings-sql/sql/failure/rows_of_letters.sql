SELECT p.id
FROM ({texts}) AS listed
JOIN tidings_dead_letter AS l ON l.id = listed.id
JOIN tidings_parked AS p ON p.consumer = l.consumer AND p.event_key = l.event_key
