INSERT INTO tidings_operator_action (at_us, actor, action, consumer, target, reason, detail)
SELECT {now}, :actor, :action, l.consumer, l.id, :reason, :detail
FROM ({texts}) AS listed JOIN tidings_dead_letter AS l ON l.id = listed.id
