SELECT id, envelope, problem, log_position, attempts, rounds, deaths, history, due_us, letter, consumer, lane, parked_us
FROM tidings_parked
WHERE id > :after{where}
ORDER BY id
LIMIT :limit
