SELECT {now}, (SELECT MIN(due_us) FROM tidings_schedule)
