SELECT id, due_us, cron, time_zone, envelope, fired, fired_last_us
FROM tidings_schedule
WHERE due_us <= :now
ORDER BY due_us, id
LIMIT :limit
