SELECT p.lane, (SELECT COUNT(*) FROM tidings_parked AS q WHERE q.consumer = p.consumer AND q.lane = p.lane)
FROM tidings_parked AS p
WHERE p.consumer = :consumer AND p.due_us <= {now}
  AND NOT EXISTS (SELECT 1 FROM tidings_parked AS o WHERE o.consumer = p.consumer AND o.lane = p.lane AND o.id < p.id)
ORDER BY p.due_us, p.id
LIMIT :limit
