INSERT INTO inbox (consumer, event_key, event_id)
SELECT :consumer, unhex(json_extract(value, '$[0]')), json_extract(value, '$[1]')
FROM json_each(:events)
WHERE true
ON CONFLICT (event_key, consumer) DO NOTHING
RETURNING lower(hex(event_key))
