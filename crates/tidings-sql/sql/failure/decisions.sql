SELECT event_key, edited FROM tidings_dead_letter
WHERE consumer = :consumer AND (status = 'discarded' OR edited IS NOT NULL)
