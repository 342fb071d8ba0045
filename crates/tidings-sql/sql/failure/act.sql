INSERT INTO tidings_operator_action (at_us, actor, action, consumer, target, reason, detail)
VALUES ({now}, :actor, :action, :consumer, :target, :reason, :detail)
