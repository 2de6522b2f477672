-- Pass through: what the generator and the way of a row cost.
SELECT auction, bidder, price, date_time, extra FROM bid
