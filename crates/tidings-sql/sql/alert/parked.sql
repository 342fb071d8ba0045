SELECT consumer, COUNT(*), COUNT(DISTINCT lane), {now} - MIN(parked_us),
  CAST(SUM(CASE WHEN letter IS NOT NULL AND due_us IS NULL THEN 1 ELSE 0 END) AS {integer}),
  {now} - MIN(CASE WHEN letter IS NOT NULL AND due_us IS NULL THEN parked_us END)
FROM tidings_parked
GROUP BY consumer
ORDER BY consumer
