INSERT INTO tidings_operator_action (at_us, actor, action, consumer, target, reason, detail)
SELECT {now}, :actor, :action, p.consumer, p.event_id, :reason, :detail
FROM ({numbers}) AS listed JOIN tidings_parked AS p ON p.id = listed.id
