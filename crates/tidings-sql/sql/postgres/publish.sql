INSERT INTO {table} (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers)
SELECT e.event_id, e.event_type, e.aggregate_id, e.destination, CAST(e.payload AS json), e.payload_bytes, CAST(e.headers AS json)
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]),
  CAST($5 AS text[]), CAST($6 AS bytea[]), CAST($7 AS text[]))
  WITH ORDINALITY AS e (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers, place)
WHERE pg_current_xact_id() IS NOT NULL
ORDER BY e.place
