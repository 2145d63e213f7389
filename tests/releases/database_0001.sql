CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.artifacts (
    job_id character varying(30) NOT NULL,
    path character varying(500) NOT NULL,
    attempt integer NOT NULL,
    size bigint NOT NULL,
    sha256 character varying(64) NOT NULL,
    media_type character varying(100) NOT NULL
);
CREATE TABLE public.attempts (
    job_id character varying(30) NOT NULL,
    number integer NOT NULL,
    owner character varying(200) NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    outcome character varying(16),
    reason character varying(500) NOT NULL,
    exit_code integer,
    peak_rss_bytes bigint
);
CREATE TABLE public.events (
    job_id character varying(30) NOT NULL,
    sequence bigint NOT NULL,
    attempt integer NOT NULL,
    kind character varying(16) NOT NULL,
    data jsonb NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.jobs (
    id character varying(30) NOT NULL,
    spec jsonb NOT NULL,
    fingerprint character varying(64) NOT NULL,
    status character varying(16) NOT NULL,
    stage character varying(32),
    reason character varying(500) NOT NULL,
    progress double precision NOT NULL,
    stage_step bigint,
    stage_total bigint,
    eta_seconds double precision,
    labels jsonb NOT NULL,
    priority integer NOT NULL,
    device_class character varying(8) NOT NULL,
    attempt integer NOT NULL,
    crashes integer NOT NULL,
    max_attempts integer NOT NULL,
    lease_owner character varying(200),
    lease_until timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    queue_deadline double precision,
    run_deadline double precision,
    error jsonb,
    result jsonb,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    rung_at timestamp with time zone,
    last_event bigint NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT ck_jobs_lease_whole CHECK (((lease_owner IS NULL) = (lease_until IS NULL))),
    CONSTRAINT ck_jobs_progress_is_share CHECK (((progress >= (0)::double precision) AND (progress <= (1)::double precision))),
    CONSTRAINT ck_jobs_status_known CHECK (((status)::text = ANY ((ARRAY['queued'::character varying, 'starting'::character varying, 'running'::character varying, 'finalizing'::character varying, 'canceling'::character varying, 'succeeded'::character varying, 'failed'::character varying, 'canceled'::character varying, 'timed_out'::character varying])::text[])))
);
CREATE TABLE public.worker_nodes (
    id character varying(120) NOT NULL,
    host character varying(100) NOT NULL,
    device character varying(8) NOT NULL,
    memory_bytes bigint NOT NULL,
    current_job character varying(30),
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen timestamp with time zone DEFAULT now() NOT NULL,
    gone_after timestamp with time zone NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0001');
INSERT INTO public.artifacts VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 'report.json', 1, 512, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'application/json');
INSERT INTO public.artifacts VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 'model/model.safetensors', 1, 269060552, 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'application/octet-stream');
INSERT INTO public.attempts VALUES ('job_01m88zx8w86r4b6qv5z0fgwkxt', 1, 'host-1/starting', '2026-11-25 09:17:10.55739+00', NULL, NULL, '', NULL, NULL);
INSERT INTO public.attempts VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', 1, 'host-1/running', '2026-11-25 09:17:10.593427+00', NULL, NULL, '', NULL, NULL);
INSERT INTO public.attempts VALUES ('job_01m88zx938egwx6sf21vak3vss', 1, 'host-1/finalizing', '2026-11-25 09:17:10.649562+00', NULL, NULL, '', NULL, NULL);
INSERT INTO public.attempts VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 1, 'host-1/canceling', '2026-11-25 09:17:10.712368+00', NULL, NULL, '', NULL, NULL);
INSERT INTO public.attempts VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 1, 'host-1/succeeded', '2026-11-25 09:17:10.7803+00', '2026-11-25 09:17:10.821684+00', 'succeeded', 'the result is published', 0, 1600000000);
INSERT INTO public.attempts VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 1, 'host-1/failed', '2026-11-25 09:17:10.909738+00', '2026-11-25 09:17:10.937099+00', 'failed', 'the loss is NaN', 1, 1000000000);
INSERT INTO public.attempts VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 1, 'host-1/timed_out', '2026-11-25 09:17:10.969367+00', '2026-11-25 09:17:10.996956+00', 'timed_out', 'took longer than its run deadline of 60 seconds', NULL, NULL);
INSERT INTO public.attempts VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 1, 'host-1/queued again', '2026-11-25 09:17:11.034944+00', '2026-11-25 09:17:11.065114+00', 'crashed', 'the loss is NaN', -9, 1000000000);
INSERT INTO public.events VALUES ('job_01m88zx8v0mjs6spwr51zjwskh', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.397328+00');
INSERT INTO public.events VALUES ('job_01m88zx8w86r4b6qv5z0fgwkxt', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.413723+00');
INSERT INTO public.events VALUES ('job_01m88zx8w86r4b6qv5z0fgwkxt', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.571977+00');
INSERT INTO public.events VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.583568+00');
INSERT INTO public.events VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.600387+00');
INSERT INTO public.events VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:10.618777+00');
INSERT INTO public.events VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:10.618801+00');
INSERT INTO public.events VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:10.618803+00');
INSERT INTO public.events VALUES ('job_01m88zx938egwx6sf21vak3vss', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.635179+00');
INSERT INTO public.events VALUES ('job_01m88zx938egwx6sf21vak3vss', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.65654+00');
INSERT INTO public.events VALUES ('job_01m88zx938egwx6sf21vak3vss', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:10.666931+00');
INSERT INTO public.events VALUES ('job_01m88zx938egwx6sf21vak3vss', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:10.666951+00');
INSERT INTO public.events VALUES ('job_01m88zx938egwx6sf21vak3vss', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:10.666954+00');
INSERT INTO public.events VALUES ('job_01m88zx938egwx6sf21vak3vss', 6, 1, 'status', '{"to": "finalizing", "from": "running", "reason": "the work is done; storing its files"}', '2026-11-25 09:17:10.68285+00');
INSERT INTO public.events VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.703095+00');
INSERT INTO public.events VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.723903+00');
INSERT INTO public.events VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:10.739124+00');
INSERT INTO public.events VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:10.739145+00');
INSERT INTO public.events VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:10.739148+00');
INSERT INTO public.events VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', 6, 1, 'status', '{"to": "canceling", "from": "running", "reason": "asked to stop; waits for the worker to confirm"}', '2026-11-25 09:17:10.755045+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.773582+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.783808+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:10.798745+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:10.798765+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:10.798768+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 6, 1, 'status', '{"to": "finalizing", "from": "running", "reason": "the work is done; storing its files"}', '2026-11-25 09:17:10.814716+00');
INSERT INTO public.events VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', 7, 1, 'status', '{"to": "succeeded", "from": "finalizing", "reason": "the result is published"}', '2026-11-25 09:17:10.840386+00');
INSERT INTO public.events VALUES ('job_01m88zx9agcdzbqh9cmabbfxmc', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.872811+00');
INSERT INTO public.events VALUES ('job_01m88zx9agcdzbqh9cmabbfxmc', 2, 0, 'status', '{"to": "canceled", "from": "queued", "reason": "canceled on request before it started"}', '2026-11-25 09:17:10.877733+00');
INSERT INTO public.events VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.898827+00');
INSERT INTO public.events VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.920601+00');
INSERT INTO public.events VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:10.930724+00');
INSERT INTO public.events VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:10.930744+00');
INSERT INTO public.events VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:10.930747+00');
INSERT INTO public.events VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', 6, 1, 'status', '{"to": "failed", "from": "running", "reason": "the loss is NaN"}', '2026-11-25 09:17:10.944197+00');
INSERT INTO public.events VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:10.957181+00');
INSERT INTO public.events VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:10.979865+00');
INSERT INTO public.events VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:10.989979+00');
INSERT INTO public.events VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:10.989999+00');
INSERT INTO public.events VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:10.990002+00');
INSERT INTO public.events VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', 6, 1, 'status', '{"to": "timed_out", "from": "running", "reason": "took longer than its run deadline of 60 seconds"}', '2026-11-25 09:17:11.010689+00');
INSERT INTO public.events VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 1, 0, 'status', '{"to": "queued", "from": null, "reason": "submitted; waits for a worker"}', '2026-11-25 09:17:11.02516+00');
INSERT INTO public.events VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 2, 1, 'status', '{"to": "starting", "from": "queued", "reason": "attempt 1 was taken by a worker"}', '2026-11-25 09:17:11.037229+00');
INSERT INTO public.events VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 3, 1, 'status', '{"to": "running", "from": "starting", "reason": "running"}', '2026-11-25 09:17:11.046354+00');
INSERT INTO public.events VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 4, 1, 'progress', '{"step": 1, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.1, "eta_seconds": null}', '2026-11-25 09:17:11.046382+00');
INSERT INTO public.events VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 5, 1, 'progress', '{"step": 2, "stage": "stage1", "total": 4, "chosen": [], "layers": {}, "message": "", "metrics": {}, "overall": 0.2, "eta_seconds": null}', '2026-11-25 09:17:11.046386+00');
INSERT INTO public.events VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', 6, 1, 'status', '{"to": "queued", "from": "running", "reason": "attempt 1 ended early: the loss is NaN"}', '2026-11-25 09:17:11.067278+00');
INSERT INTO public.jobs VALUES ('job_01m88zx8v0mjs6spwr51zjwskh', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'queued', NULL, 'submitted; waits for a worker', 0, NULL, NULL, NULL, '{"is": "queued"}', 4, 'any', 0, 0, 3, NULL, NULL, NULL, 1000000000, NULL, NULL, NULL, '2026-11-25 09:17:10.387808+00', '2026-11-25 09:17:10.387808+00', NULL, NULL, '2026-11-25 09:17:10.856982+00', 1, 2);
INSERT INTO public.jobs VALUES ('job_01m88zx8w86r4b6qv5z0fgwkxt', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'starting', NULL, 'attempt 1 was taken by a worker', 0, NULL, NULL, NULL, '{"is": "starting"}', 0, 'any', 1, 0, 3, 'host-1/starting', '2058-08-03 11:03:50.55739+00', NULL, NULL, NULL, NULL, NULL, '2026-11-25 09:17:10.412249+00', '2026-11-25 09:17:10.412249+00', '2026-11-25 09:17:10.55739+00', NULL, '2026-11-25 09:17:10.856982+00', 2, 4);
INSERT INTO public.jobs VALUES ('job_01m88zx91m1dqfr8wx9n9kzyym', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'running', 'stage1', 'running', 0.2, 2, 4, NULL, '{"is": "running"}', 0, 'any', 1, 0, 3, 'host-1/running', '2058-08-03 11:03:50.593427+00', NULL, NULL, NULL, NULL, NULL, '2026-11-25 09:17:10.5824+00', '2026-11-25 09:17:10.5824+00', '2026-11-25 09:17:10.593427+00', NULL, '2026-11-25 09:17:10.856982+00', 5, 7);
INSERT INTO public.jobs VALUES ('job_01m88zx938egwx6sf21vak3vss', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'finalizing', 'stage1', 'the work is done; storing its files', 0.2, 2, 4, NULL, '{"is": "finalizing"}', 0, 'any', 1, 0, 3, 'host-1/finalizing', '2058-08-03 11:03:50.649562+00', NULL, NULL, NULL, NULL, NULL, '2026-11-25 09:17:10.63386+00', '2026-11-25 09:17:10.63386+00', '2026-11-25 09:17:10.649562+00', NULL, '2026-11-25 09:17:10.856982+00', 6, 8);
INSERT INTO public.jobs VALUES ('job_01m88zx95c0atmn35jsa9vmfx4', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'canceling', 'stage1', 'asked to stop; waits for the worker to confirm', 0.2, 2, 4, NULL, '{"is": "canceling"}', 0, 'any', 1, 0, 3, 'host-1/canceling', '2058-08-03 11:03:50.712368+00', '2026-11-25 09:17:10.753682+00', NULL, NULL, NULL, NULL, '2026-11-25 09:17:10.701878+00', '2026-11-25 09:17:10.701878+00', '2026-11-25 09:17:10.712368+00', NULL, '2026-11-25 09:17:10.856982+00', 6, 8);
INSERT INTO public.jobs VALUES ('job_01m88zx97g1bp6tp41g6g62qyw', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'succeeded', 'stage1', 'the result is published', 1, 2, 4, NULL, '{"is": "succeeded"}', 0, 'any', 1, 0, 3, NULL, NULL, NULL, NULL, NULL, NULL, '{"layers": 30, "seconds": 92.75, "parameters": {"dense": 134515008, "pruned": 127434816}, "perplexity": {"python-docs": {"dense": 9.5, "pruned": 10.25}}, "round_trip_ok": true, "peak_rss_bytes": 1600000000, "removed_layers": [3, 11]}', '2026-11-25 09:17:10.772334+00', '2026-11-25 09:17:10.772334+00', '2026-11-25 09:17:10.7803+00', '2026-11-25 09:17:10.821684+00', '2026-11-25 09:17:10.856982+00', 7, 9);
INSERT INTO public.jobs VALUES ('job_01m88zx9agcdzbqh9cmabbfxmc', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'canceled', NULL, 'canceled on request before it started', 0, NULL, NULL, NULL, '{"is": "canceled"}', 0, 'any', 0, 0, 3, NULL, NULL, '2026-11-25 09:17:10.87658+00', NULL, NULL, NULL, NULL, '2026-11-25 09:17:10.865668+00', '2026-11-25 09:17:10.865668+00', NULL, '2026-11-25 09:17:10.87658+00', NULL, 2, 3);
INSERT INTO public.jobs VALUES ('job_01m88zx9bgtdqkcnnrwmc7h2fn', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'failed', 'stage1', 'the loss is NaN', 0.2, 2, 4, NULL, '{"is": "failed"}', 0, 'any', 1, 0, 3, NULL, NULL, NULL, NULL, NULL, '{"code": "numerical_failure", "message": "the loss is NaN", "problems": [], "suggestion": "use a smaller learning_rate"}', NULL, '2026-11-25 09:17:10.897736+00', '2026-11-25 09:17:10.897736+00', '2026-11-25 09:17:10.909738+00', '2026-11-25 09:17:10.937099+00', NULL, 6, 8);
INSERT INTO public.jobs VALUES ('job_01m88zx9d8en5y2j4c2mszh6g0', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'timed_out', 'stage1', 'took longer than its run deadline of 60 seconds', 0.2, 2, 4, NULL, '{"is": "timed_out"}', 0, 'any', 1, 0, 3, NULL, NULL, NULL, NULL, 60, '{"code": "timed_out", "message": "took longer than its run deadline of 60 seconds", "problems": [], "suggestion": "retry it with a longer run_deadline"}', NULL, '2026-11-25 09:17:10.953652+00', '2026-11-25 09:17:10.953652+00', '2026-11-25 09:17:10.969367+00', '2026-11-25 09:17:10.996956+00', NULL, 6, 8);
INSERT INTO public.jobs VALUES ('job_01m88zx9fcpshtd93bbvjq0yg2', '{"dtype": "auto", "model": "demo:smollm2-135m", "device": "auto", "export": {"formats": ["safetensors"], "gguf_type": "f16"}, "memory": "auto", "method": {"gate": "residual", "name": "trsp", "norm": "l2", "ridge": null, "absorb": true, "lambda1": 0.005, "lambda2": 0.3, "own_text": 0.25, "schedule": "split", "lora_rank": 16, "normalize": true, "objective": "distill+lm", "optimizer": "adamw", "trainable": "lora", "candidates": "trials", "gate_parts": "layer", "verify_top": 4, "tuned_first": 0.2, "protect_last": 1, "stage1_steps": 6, "stage2_steps": null, "learning_rate": null, "protect_first": 1, "distill_weight": 1.0, "batch_sequences": 1, "checkpoint_every": 80, "stage1_sequences": null, "gate_learning_rate": 0.1}, "target": {"sparsity": 0.25}, "evaluation": {"speed": null, "tasks": [], "windows": null, "perplexity": ["python-docs"], "window_length": null}, "calibration": {"set": "python-docs", "seed": 0, "sequences": 128, "sequence_length": null}}', '2e7889642c1a14de3cf4c139b6fc1f9fc80773b719868f57d4741c057ebbc243', 'queued', 'stage1', 'attempt 1 ended early: the loss is NaN', 0.2, 2, 4, NULL, '{"is": "queued again"}', 0, 'any', 1, 1, 3, NULL, NULL, NULL, NULL, NULL, '{"code": "numerical_failure", "message": "the loss is NaN", "problems": [], "suggestion": "use a smaller learning_rate"}', NULL, '2026-11-25 09:17:11.021738+00', '2026-11-25 09:17:11.065114+00', '2026-11-25 09:17:11.034944+00', NULL, NULL, 6, 8);
INSERT INTO public.worker_nodes VALUES ('host-1-abcd', 'host-1', 'cpu', 17179869184, NULL, '2026-11-25 09:17:10.36083+00', '2026-11-25 09:17:10.364634+00', '2026-11-25 12:17:10.364634+00');
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT pk_artifacts PRIMARY KEY (job_id, path);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT pk_attempts PRIMARY KEY (job_id, number);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT pk_events PRIMARY KEY (job_id, sequence);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT pk_jobs PRIMARY KEY (id);
ALTER TABLE ONLY public.worker_nodes
    ADD CONSTRAINT pk_worker_nodes PRIMARY KEY (id);
CREATE INDEX ix_jobs_fingerprint ON public.jobs USING btree (fingerprint);
CREATE INDEX ix_jobs_labels ON public.jobs USING gin (labels);
CREATE INDEX ix_jobs_lease_until ON public.jobs USING btree (lease_until) WHERE (lease_until IS NOT NULL);
CREATE INDEX ix_jobs_model ON public.jobs USING btree (((spec ->> 'model'::text)), id);
CREATE INDEX ix_jobs_queued ON public.jobs USING btree (priority DESC, id) WHERE ((status)::text = 'queued'::text);
CREATE INDEX ix_jobs_status_id ON public.jobs USING btree (status, id);
CREATE INDEX ix_worker_nodes_gone_after ON public.worker_nodes USING btree (gone_after);
ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT fk_artifacts_job_id FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT fk_attempts_job_id FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.events
    ADD CONSTRAINT fk_events_job_id FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.worker_nodes
    ADD CONSTRAINT fk_worker_nodes_current_job FOREIGN KEY (current_job) REFERENCES public.jobs(id) ON DELETE SET NULL;
