INSERT INTO tidings_parked (consumer, lane, lane_key, event_key, event_id, event_type, envelope, problem, log_position, attempts, rounds, deaths, history, due_us, letter, parked_us)
SELECT l.consumer, l.lane, l.lane_key, :event_key, :event_id, :event_type, :envelope, CAST(NULL AS {text_type}), l.log_position, 0, 0, 0, '[]', CAST(NULL AS {integer}), CAST(NULL AS {text_type}), {now}
FROM tidings_dead_letter AS l
WHERE l.id = :letter
{parked_known}
