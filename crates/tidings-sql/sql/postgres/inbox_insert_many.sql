INSERT INTO inbox (consumer, event_key, event_id)
SELECT :consumer, CAST(value->>0 AS uuid), value->>1
FROM json_array_elements(CAST(:events AS json))
ON CONFLICT (event_key, consumer) DO NOTHING
RETURNING replace(CAST(event_key AS text), '-', '')
