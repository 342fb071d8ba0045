INSERT INTO tidings_taken_over (source, up_to) VALUES (:source, :up_to)
{taken_conflict}
