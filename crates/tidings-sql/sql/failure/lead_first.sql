INSERT INTO tidings_leader (consumer, owner, epoch, until_us) VALUES (:consumer, :owner, 1, {now} + :lease)
