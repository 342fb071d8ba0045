INSERT INTO tidings_group (consumer, paused_why, changed_us) VALUES (:consumer, :reason, {now})
{group_conflict}
