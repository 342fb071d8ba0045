-- The CASE hides what it tests from planners: each would take it for granted that a NOT IN leaves half of the rows, and rather sort the whole table
-- than walk along the ids until there are enough. Lists that are empty, and notes that are not there, cost nothing.
SELECT c.now_us, c.oldest_open, c.first_future, u.*
FROM ({clock}) AS c
LEFT JOIN (
  SELECT {id_text} AS row_id, {event_id} AS event_id, {event_type} AS event_type, {key} AS event_key, {destination} AS destination,
    {payload} AS payload, {payload_bytes} AS payload_bytes, {headers} AS headers, {created_us} AS created_us,
    {correlation_id} AS correlation_id, {causation_id} AS causation_id, {source} AS source, {version} AS version,
    {content_type} AS content_type, {attempts} AS attempts, {order} AS place
  FROM {table} AS o
  WHERE {is_unsent} {above_floor}
    AND CASE WHEN (:shards = 1 OR {hash} % :shards = :shard)
      {is_alive}
      AND (:excluded = '[]' OR {id} NOT IN ({excluded}))
      AND (:destinations = '[]' OR {destination} NOT IN ({destinations}))
      AND (:blocked = '[]' OR {key} IS NULL OR ({lane}) NOT IN ({blocked}))
      {behind_dead}
    THEN 1 END IS NOT NULL
  ORDER BY {order} LIMIT :limit
) AS u ON 1 = 1
{in_place}
