SELECT COUNT(*) FROM inbox
WHERE consumer = :consumer AND event_key = {dedupe_key}
