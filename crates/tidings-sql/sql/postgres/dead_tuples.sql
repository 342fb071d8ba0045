-- Rows that are gone and not cleaned up, and the session whose snapshot is the oldest: nothing that it may still see is cleaned up. Of sessions of others a user
-- without pg_read_all_stats does not see since when they are open.
SELECT t.n_dead_tup, h.pid, CAST(EXTRACT(EPOCH FROM clock_timestamp() - h.since) * 1000000 AS bigint)
FROM pg_stat_all_tables AS t
LEFT JOIN LATERAL (
  SELECT a.pid, a.xact_start AS since
  FROM pg_stat_activity AS a
  WHERE a.backend_xmin IS NOT NULL AND a.xact_start IS NOT NULL AND a.datname = current_database() AND a.pid <> pg_backend_pid()
  ORDER BY age(a.backend_xmin) DESC, a.xact_start LIMIT 1
) AS h ON true
WHERE t.relid = to_regclass(:table)
