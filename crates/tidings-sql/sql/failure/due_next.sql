SELECT MIN(due_us) - {now} FROM tidings_parked WHERE consumer = :consumer AND due_us > {now}
