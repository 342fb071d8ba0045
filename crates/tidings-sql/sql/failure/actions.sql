SELECT at_us, actor, action, consumer, target, reason, detail
FROM tidings_operator_action
WHERE target = :target
ORDER BY id
LIMIT :limit
