INSERT INTO {table} (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers)
SELECT e.event_id, e.event_type, e.aggregate_id, e.destination, CAST(e.payload AS json), e.payload_bytes, CAST(e.headers AS json)
FROM unnest(CAST(:event_id AS text[]), CAST(:event_type AS text[]), CAST(:key AS text[]), CAST(:destination AS text[]),
  CAST(:payload AS text[]), CAST(:payload_bytes AS bytea[]), CAST(:headers AS text[]))
  WITH ORDINALITY AS e (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers, place)
WHERE pg_current_xact_id() IS NOT NULL
ORDER BY e.place
