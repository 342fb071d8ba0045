INSERT INTO tidings_parked (consumer, lane, lane_key, event_key, event_id, event_type, envelope, problem, log_position, attempts, rounds, deaths, history, due_us, letter, parked_us)
SELECT l.consumer, l.lane, l.lane_key, l.event_key, l.event_id, l.event_type, l.envelope, l.problem, l.log_position, 0, 0, l.deaths, '[]', CAST(NULL AS {integer}), l.id, {now}
FROM ({texts}) AS listed JOIN tidings_dead_letter AS l ON l.id = listed.id
WHERE 1 = 1
ORDER BY l.number
{parked_known}
