SELECT id, envelope, problem, log_position, attempts, rounds, deaths, history, due_us, letter
FROM tidings_parked
WHERE consumer = :consumer AND lane = :lane
ORDER BY id
LIMIT :limit
