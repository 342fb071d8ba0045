-- The newest ones, in the order in which they were made; a dead letter is told by its event, too.
SELECT a.at_us, a.actor, a.action, a.consumer, COALESCE(l.event_id, a.target), a.reason, a.detail
FROM (
  SELECT id, at_us, actor, action, consumer, target, reason, detail
  FROM tidings_operator_action
  WHERE (:consumer = '' OR consumer = :consumer)
  ORDER BY id DESC LIMIT :limit
) AS a
LEFT JOIN tidings_dead_letter AS l ON l.id = a.target
ORDER BY a.id
