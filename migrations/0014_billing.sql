-- +goose Up
-- What the log says about each account's plan and payments: the fold of its events, see domain/billing.
CREATE TABLE read.billing (
    account  text COLLATE "C" PRIMARY KEY,
    customer text COLLATE "C" NOT NULL, -- at Stripe; empty: none is known
    checkout boolean NOT NULL,          -- whether a payment page may still be paid
    state    jsonb NOT NULL
);
-- Which account a message of Stripe is about. Two accounts never share a customer, but a damaged log must not stop the read model.
CREATE INDEX ON read.billing (customer) WHERE customer <> '';
-- What is looked at every minute.
CREATE INDEX ON read.billing (account) WHERE checkout;

-- Messages of Stripe that were handled. Stripe repeats a message for three days; a message that was forgotten is handled
-- again, without effect.
CREATE TABLE ops.deliveries (
    id         text COLLATE "C" NOT NULL PRIMARY KEY,
    handled_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON ops.deliveries (handled_at);

-- When what Stripe shows was last compared with the log, as a whole.
CREATE TABLE ops.comparisons (
    one      boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    began_at timestamptz NOT NULL,
    summary  jsonb NOT NULL -- what was compared and found
);

-- +goose Down
DROP TABLE ops.comparisons;
DROP TABLE ops.deliveries;
DROP TABLE read.billing;
