SELECT consumer, paused_why, changed_us FROM tidings_group WHERE paused_why IS NOT NULL ORDER BY consumer
