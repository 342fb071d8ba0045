DELETE FROM tidings_schedule WHERE id = :id
