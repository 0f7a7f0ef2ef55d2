"""Plans, what is used of them, and who may use how much at once."""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# plans: rows of nobody ('') hold for every merchant; a merchant's own row of the same name is its contract and comes first.
# limit_states: one row per key and one per merchant (key_id ''), rewritten by every charge. slots and streams map a replica to
# [how many, when it last said so]. usage_days: the days before the one in limit_states.
TABLES = """
CREATE TABLE plans (
    tenant_id text NOT NULL, name text NOT NULL, daily_limit bigint, requests_per_second integer NOT NULL CHECK (requests_per_second > 0),
    concurrent_limit integer NOT NULL CHECK (concurrent_limit > 0), PRIMARY KEY (tenant_id, name)
);
INSERT INTO plans (tenant_id, name, daily_limit, requests_per_second, concurrent_limit) VALUES
    ('', 'basic', 1000, 5, 100), ('', 'pro', 10000, 20, 100), ('', 'business', 50000, 50, 100), ('', 'enterprise', NULL, 200, 100);
CREATE TABLE limit_states (
    tenant_id text NOT NULL, key_id text NOT NULL, day date NOT NULL, used bigint NOT NULL DEFAULT 0, refused bigint NOT NULL DEFAULT 0,
    till_messages bigint NOT NULL DEFAULT 0, tat double precision NOT NULL DEFAULT 0, slots jsonb NOT NULL DEFAULT '{}',
    streams jsonb NOT NULL DEFAULT '{}', PRIMARY KEY (tenant_id, key_id)
) WITH (fillfactor = 50);
CREATE TABLE usage_days (
    tenant_id text NOT NULL, day date NOT NULL, key_id text NOT NULL, used bigint NOT NULL, refused bigint NOT NULL,
    till_messages bigint NOT NULL, PRIMARY KEY (tenant_id, day, key_id)
);
CREATE INDEX usage_days_age ON usage_days (day);
ALTER TABLE tenants ADD COLUMN plan text NOT NULL DEFAULT 'enterprise';
ALTER TABLE tenants ALTER COLUMN plan SET DEFAULT 'basic'
"""
# Merchants from before there were plans keep working as they did: nobody is cut off by an upgrade. New ones begin with Basic.

# Charges many calls of many merchants in one statement. The lock on a merchant's row makes replicas take turns; what follows in a
# function sees what the one before has committed, which the parts of a single statement would not. Calls are granted if the key's
# rate (GCRA: `tat` is when its bucket is full again), the merchant's day and its places at once all allow, else none is charged.
# Arrays are per merchant (tenants, helds, tills) or per key (the others), both in the order of merchants, sorted by the caller.
# A newer form of it gets a new name, so that replicas of two releases can run side by side.
CHARGE = """
CREATE FUNCTION charge_requests(
    replica text, alive_seconds double precision, tenants text[], helds integer[], tills integer[],
    key_tenants text[], key_ids text[], counts integer[], own_rates integer[], refusals integer[], debts integer[]
) RETURNS TABLE (
    key_granted integer, key_paced integer, key_rate integer, key_left double precision, day_limit bigint, day_used bigint,
    at_once integer, at_once_now integer, day_left double precision
) LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = public AS $$
DECLARE
    j integer := 1;
    moment double precision;
    today date;
    state limit_states%ROWTYPE;
    key limit_states%ROWTYPE;
    plan record;
    elsewhere integer;
    others jsonb;
    room bigint;
    total_granted integer;
    total_refused integer;
BEGIN
    FOR i IN 1 .. cardinality(tenants) LOOP
        SELECT * INTO state FROM limit_states s WHERE s.tenant_id = tenants[i] AND s.key_id = '' FOR NO KEY UPDATE;
        moment := extract(epoch FROM clock_timestamp());
        today := (clock_timestamp() AT TIME ZONE 'Asia/Jakarta')::date;
        IF state.tenant_id IS NULL THEN
            INSERT INTO limit_states (tenant_id, key_id, day) VALUES (tenants[i], '', today) ON CONFLICT DO NOTHING;
            SELECT * INTO state FROM limit_states s WHERE s.tenant_id = tenants[i] AND s.key_id = '' FOR NO KEY UPDATE;
        END IF;
        IF state.day < today THEN
            INSERT INTO usage_days (tenant_id, day, key_id, used, refused, till_messages)
            SELECT s.tenant_id, s.day, s.key_id, s.used, s.refused, s.till_messages
            FROM limit_states s WHERE s.tenant_id = tenants[i] AND s.day < today AND s.used + s.refused + s.till_messages > 0;
            UPDATE limit_states s SET day = today, used = 0, refused = 0, till_messages = 0
            WHERE s.tenant_id = tenants[i] AND s.day < today;
            state.day := today; state.used := 0; state.refused := 0; state.till_messages := 0;
        END IF;
        SELECT p.daily_limit, p.requests_per_second, p.concurrent_limit INTO plan
        FROM plans p WHERE p.tenant_id IN ('', tenants[i])
            AND p.name = coalesce((SELECT t.plan FROM tenants t WHERE t.tenant_id = tenants[i]), 'basic')
        ORDER BY p.tenant_id DESC LIMIT 1;
        others := state.slots - replica;
        elsewhere := 0;
        IF others <> '{}' THEN
            SELECT coalesce(jsonb_object_agg(e.name, e.place), '{}'), coalesce(sum((e.place -> 0)::integer), 0) INTO others, elsewhere
            FROM jsonb_each(others) AS e (name, place) WHERE (e.place -> 1)::double precision > moment - alive_seconds;
        END IF;
        room := greatest(0, least(coalesce(plan.daily_limit - state.used, 1000000000), plan.concurrent_limit - helds[i] - elsewhere));
        total_granted := 0;
        total_refused := 0;
        at_once := plan.concurrent_limit;
        day_limit := plan.daily_limit;
        day_left := extract(epoch FROM (state.day + 1)::timestamp AT TIME ZONE 'Asia/Jakarta')::double precision - moment;
        WHILE key_tenants[j] = tenants[i] LOOP
            SELECT * INTO key FROM limit_states s WHERE s.tenant_id = tenants[i] AND s.key_id = key_ids[j];
            IF key.tenant_id IS NULL THEN
                INSERT INTO limit_states (tenant_id, key_id, day) VALUES (tenants[i], key_ids[j], state.day);
                key.tat := 0;
            END IF;
            key_rate := least(plan.requests_per_second, nullif(own_rates[j], 0));
            key.tat := greatest(key.tat, moment);
            key_left := key_rate * (1 + moment - key.tat);
            key_paced := greatest(0, least(counts[j], floor(key_left + 1e-6)::integer));
            key_granted := least(key_paced, room);
            key_left := key_left - key_granted;
            room := room - key_granted;
            UPDATE limit_states s SET
                used = s.used + key_granted + debts[j], refused = s.refused + counts[j] - key_granted + refusals[j],
                tat = key.tat + key_granted::double precision / key_rate
            WHERE s.tenant_id = tenants[i] AND s.key_id = key_ids[j];
            total_granted := total_granted + key_granted;
            total_refused := total_refused + counts[j] - key_granted + refusals[j];
            state.used := state.used + key_granted + debts[j];
            day_used := state.used;
            at_once_now := helds[i] + elsewhere + total_granted;
            j := j + 1;
            RETURN NEXT;
        END LOOP;
        UPDATE limit_states s SET used = state.used, refused = s.refused + total_refused, till_messages = s.till_messages + tills[i],
            slots = others || jsonb_build_object(replica, jsonb_build_array(helds[i] + total_granted, moment))
        WHERE s.tenant_id = tenants[i] AND s.key_id = '';
    END LOOP;
END $$
"""

FENCED = ("plans", "limit_states", "usage_days")


def upgrade() -> None:
    """Creates everything."""
    fence = import_module("cloud.platform.migrations.versions.0001_first_schema").fence
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)
    op.execute(CHARGE)
    for table in FENCED:
        fence(table)
    # The price list is no secret.
    op.execute("CREATE POLICY everybody ON plans FOR SELECT TO gipos_app USING (tenant_id = '')")
