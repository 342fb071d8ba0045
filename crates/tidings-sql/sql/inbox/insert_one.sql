INSERT INTO inbox (consumer, event_key, event_id)
VALUES (:consumer, {dedupe_key}, :event_id)
{unless_known}
