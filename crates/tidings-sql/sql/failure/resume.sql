UPDATE tidings_group SET paused_why = NULL, changed_us = {now} WHERE consumer = :consumer AND paused_why IS NOT NULL
