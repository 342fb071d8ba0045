INSERT INTO tidings_parked (consumer, lane, lane_key, event_key, event_id, event_type, envelope, problem, log_position, attempts, rounds, deaths, history, due_us, letter, parked_us)
VALUES [(:consumer, :lane, :lane_key, :event_key, :event_id, :event_type, :envelope, :problem, CAST(:log_position AS {integer}), :attempts, :rounds, :deaths, :history, {now} + CAST(:due_in AS {integer}), :letter, {now})]
{parked_known}
