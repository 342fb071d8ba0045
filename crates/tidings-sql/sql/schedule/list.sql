SELECT id, due_us, cron, time_zone, envelope, fired, fired_last_us
FROM tidings_schedule
WHERE id > :after
ORDER BY id
LIMIT :limit
