INSERT INTO tidings_schedule (id, due_us, cron, time_zone, envelope, fired, added_us)
VALUES (:id, :due, :cron, :time_zone, :envelope, 0, {now})
{schedule_known}
