-- The payload only where the id of the event is made from it.
SELECT {id_text} AS row_id, {event_id} AS event_id, {key} AS event_key,
  CASE WHEN {is_nameless} THEN {payload} END AS payload, CASE WHEN {is_nameless} THEN {payload_bytes} END AS payload_bytes,
  {created_us} AS created_us, CASE WHEN {is_sent} THEN 3 ELSE {state} END AS state
FROM {table} AS o {notes}
ORDER BY {order}
