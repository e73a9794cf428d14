-- A database in the shape of the original control plane's, with what an import meets. The hashes were made with Python's
-- passlib 1.7.4 and bcrypt 3.2.2, the tokens with cryptography 38.0.4 and the ENCRYPTION_KEY
-- mKZ0m6Yl1h0Yj6m0hV6Jm0c3JcQ9mC5n0oS3l8Cw1yE= (its SHA-256 is the Fernet key).
CREATE TABLE users (
    id uuid PRIMARY KEY, email varchar(255) NOT NULL UNIQUE, password_hash varchar(255) NOT NULL, stripe_customer_id varchar(255),
    created_at timestamp, last_login timestamp
);
CREATE TABLE user_api_keys (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, provider varchar(50) NOT NULL,
    encrypted_key text NOT NULL, created_at timestamp, UNIQUE (user_id, provider)
);
CREATE TABLE instances (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, name varchar(255) NOT NULL,
    ec2_instance_id varchar(255) UNIQUE, public_ip inet, status varchar(50) NOT NULL, vnc_port int DEFAULT 5900,
    cloudbot_port int DEFAULT 18789, created_at timestamp, stopped_at timestamp, instance_metadata json
);
CREATE TABLE subscriptions (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, stripe_subscription_id varchar(255) UNIQUE,
    stripe_price_id varchar(255), plan_type varchar(50), status varchar(50), instance_type varchar(50), max_workers int,
    current_period_start timestamp, current_period_end timestamp
);
CREATE TABLE sessions (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE, token_hash text, created_at timestamp);

INSERT INTO users (id, email, password_hash, created_at, last_login) VALUES
    ('00000000-0000-4000-8000-000000000001', 'Ada@example.com', '$2b$04$w90/W6IcolDD3u38fNtL/uNC3RBi3CKymReEX2qnboWYTr8atdNsu', '2026-01-02 03:04:05.678', now()),
    ('00000000-0000-4000-8000-000000000002', 'long@example.com', '$2b$04$JAbqkVO/LFn0HM9roRq0De3dPAgiEeIIdooguJ.QTg9Cf7jkRuIu.', '2026-01-03 00:00:00', NULL),
    ('00000000-0000-4000-8000-000000000003', 'taken@example.com', '$2b$12$Aca.WvyXxu6v3K8dmPFupOpEXH122DQ9uklhesUZbvbmeZ8K4WJVG', '2026-01-04 00:00:00', NULL),
    ('00000000-0000-4000-8000-000000000004', 'ADA@EXAMPLE.COM', '$2b$12$Aca.WvyXxu6v3K8dmPFupOpEXH122DQ9uklhesUZbvbmeZ8K4WJVG', '2026-01-05 00:00:00', NULL),
    ('00000000-0000-4000-8000-000000000005', 'nonsense', '$2b$12$Aca.WvyXxu6v3K8dmPFupOpEXH122DQ9uklhesUZbvbmeZ8K4WJVG', '2026-01-06 00:00:00', NULL),
    ('00000000-0000-4000-8000-000000000006', 'plain@example.com', 'plain text', NULL, NULL),
    ('00000000-0000-4000-8000-000000000007', 'short@example.com', '$2b$04$B/4Of9V1mAoqd7yUvGch1.fxcNE75oIEUTYVSwVO13KWgppEJQLhS', NULL, NULL);

INSERT INTO user_api_keys VALUES
    ('10000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000001', 'anthropic', 'gAAAAABrCmvc7Eu0dI-sAb8dq_Ro0HoCJ2UjKA7Izsu2KDNMlUsKpTipRW3390BEgE_ggb6SBaYHIaSP2Rpcp3LAsG7P9byJS_qRgASZJSdf16bvtSjOcYw=', '2026-01-02'),
    ('10000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000002', 'openai', 'gAAAAABrCmvcZIIfgjdcbJd9g8W9aObxb0rPMd2SFTsX-UPmje01nfc_pmiwDu0ria8hawhHMPKkFm_nlGSLeRq5I5-C1am-RDwFMqSrsMExlam1ToaA37k=', '2026-01-03'),
    ('10000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-000000000003', 'openai', 'gAAAAABrCmvcZIIfgjdcbJd9g8W9aObxb0rPMd2SFTsX-UPmje01nfc_pmiwDu0ria8hawhHMPKkFm_nlGSLeRq5I5-C1am-RDwFMqSrsMExlam1ToaA37k=', '2026-01-03'),
    ('10000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-000000000007', 'openai', 'gAAAAABrCmvcOvUpJ3O36C-y75Mf_JZGc4JHSF81wdL_j8BkEdn84CjLUJy62uUZJgnOcjNWS0uLVB5uT5Xz7LlgTWLAXnEz7HpF8bN5WmS0K1WBPeVQacc=', NULL),
    ('10000000-0000-4000-8000-000000000005', '00000000-0000-4000-8000-000000000007', 'acme', 'gAAAAABrCmvcZIIfgjdcbJd9g8W9aObxb0rPMd2SFTsX-UPmje01nfc_pmiwDu0ria8hawhHMPKkFm_nlGSLeRq5I5-C1am-RDwFMqSrsMExlam1ToaA37k=', NULL);

INSERT INTO instances (id, user_id, name, ec2_instance_id, public_ip, status, created_at) VALUES
    ('20000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000001', 'Ada''s old desktop', 'MACHINE_1', '203.0.113.7', 'running', '2026-02-03 04:05:06'),
    ('20000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000002', 'At rest', 'MACHINE_2', NULL, 'stopped', NULL),
    ('20000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-000000000001', 'Gone', 'i-0000000000000dead', NULL, 'terminated', NULL),
    ('20000000-0000-4000-8000-000000000004', '00000000-0000-4000-8000-000000000007', 'No machine', NULL, NULL, 'launching', NULL),
    ('20000000-0000-4000-8000-000000000005', '00000000-0000-4000-8000-000000000007', 'Odd', 'i-0000000000000beef', NULL, 'melted', NULL),
    ('20000000-0000-4000-8000-000000000006', '00000000-0000-4000-8000-000000000007', 'Not listed', 'i-0000000000000cafe', NULL, 'running', NULL);

INSERT INTO subscriptions (id, user_id, plan_type, status) VALUES ('30000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000001', 'pro', 'active');
