INSERT INTO {table} (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers)
SELECT CAST(:event_id AS text), CAST(:event_type AS text), CAST(:key AS text), CAST(:destination AS text),
  CAST(CAST(:payload AS text) AS json), CAST(:payload_bytes AS bytea), CAST(CAST(:headers AS text) AS json)
WHERE pg_current_xact_id() IS NOT NULL
