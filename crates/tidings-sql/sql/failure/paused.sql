SELECT paused_why FROM tidings_group WHERE consumer = :consumer AND paused_why IS NOT NULL
