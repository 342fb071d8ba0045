SELECT up_to FROM tidings_taken_over WHERE source = :source
