SELECT consumer, fingerprint,
  CAST(SUM(CASE WHEN status IN ('open', 'redriven') THEN 1 ELSE 0 END) AS {integer}), COUNT(*),
  {now} - MIN(CASE WHEN status IN ('open', 'redriven') THEN died_us END)
FROM tidings_dead_letter
GROUP BY consumer, fingerprint
ORDER BY consumer, fingerprint
