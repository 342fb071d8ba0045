INSERT INTO tidings_parker (consumer, owner, until_us) VALUES (:consumer, :owner, {now} + :lease)
