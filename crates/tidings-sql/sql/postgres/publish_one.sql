INSERT INTO {table} (event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers)
SELECT CAST($1 AS text), CAST($2 AS text), CAST($3 AS text), CAST($4 AS text),
  CAST(CAST($5 AS text) AS json), CAST($6 AS bytea), CAST(CAST($7 AS text) AS json)
WHERE pg_current_xact_id() IS NOT NULL
