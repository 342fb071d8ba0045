SELECT p.lane, COUNT(*), CAST(SUM(CASE WHEN d.id IS NOT NULL AND p.due_us IS NULL THEN 1 ELSE 0 END) AS {integer}), {now} - MIN(p.parked_us)
FROM tidings_parked AS p LEFT JOIN tidings_dead_letter AS d ON d.id = p.letter AND d.status = 'open'
WHERE p.consumer = :consumer
GROUP BY p.lane
