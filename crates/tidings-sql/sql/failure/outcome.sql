SELECT status, COUNT(*) FROM tidings_dead_letter WHERE redrive_run = :run GROUP BY status
