SELECT {now}, COUNT(*), MIN({created_us})
FROM {table} AS o
WHERE {is_unsent} {is_alive} AND (:excluded = '[]' OR {id} NOT IN ({excluded}))
