/**
 * The shapes of what crosses between this page and the kernel, the same as in messages.py (a test compares the fields).
 * Types only: nothing of this file is left at run time.
 */

/** @typedef {{path: string, kind: string, size_bytes: number|null, downloaded_bytes: number, status: string,
 *   arrived_steps: number[], verified_steps: number}} ShardState */
/** @typedef {{id: string, repo_id: string, name: string, quantization: string|null, revision: string|null,
 *   status: string, position: number, downloaded_bytes: number, total_bytes: number|null,
 *   bytes_per_second: number|null, eta_seconds: number|null, notice: string|null, notice_kind: string|null,
 *   error: string|null, help_url: string|null, can_retry: boolean, reason: string, path: string|null, projector_path: string|null,
 *   is_verified: boolean|null, was_present: boolean, hosts: string, started_at_s: number|null, ended_at_s: number|null,
 *   shards: ShardState[]}} ItemState */
/** @typedef {{started_at_s: number, ended_at_s: number, models_completed: number, models_failed: number,
 *   models_cancelled: number, completed_bytes: number|null}} RunState */
/** @typedef {{kind: string, text: string}} NoticeState */
/** @typedef {{owner: string, is_left: boolean, id: string, name: string, quantization: string|null, status: string,
 *   downloaded_bytes: number, total_bytes: number|null, bytes_per_second: number|null, eta_seconds: number|null,
 *   notice: string|null}} ElsewhereState */
/** @typedef {{pending_count: number, active_count: number, max_size: number, max_concurrent: number,
 *   max_connections: number, bandwidth_limit_bytes_per_second: number|null, download_hours: string|null,
 *   waits_until: string|null, bytes_per_second: number|null, eta_seconds: number|null,
 *   resolving: string[], last_run: RunState|null, notices: NoticeState[], elsewhere: ElsewhereState[]}} QueueState */
/** @typedef {{rev: number, seq: number, queue: QueueState, order: string[], items: Record<string, ItemState>}} PanelState */
/** @typedef {{fields: Partial<ItemState>, bars: [number, number, string?, number?, number[]?][]}} ItemPatch */
/** @typedef {{kind: "delta", rev: number, seq: number, queue: Partial<QueueState>, order?: string[],
 *   items: Record<string, ItemPatch>}} Delta */
/** @typedef {{kind: "reply", cid: string, ok: boolean, result?: any, error?: string,
 *   alternatives?: string[]}} Reply */
/** @typedef {{key: string, label: string|null, size_bytes: number|null, bytes_to_go: number|null,
 *   free_bytes_after: number|null, bits_per_weight: number|null, file_count: number, fit: string,
 *   mood: string, arguments: string, is_complete: boolean, is_present: boolean, is_queued: boolean, is_recommended: boolean,
 *   why: string}} VariantChoice */
/** @typedef {{kind: string, size_bytes: number|null}} CompanionChoice */
/** @typedef {{repo_id: string, page_url: string|null, revision: string|null, free_bytes: number|null, context_tokens: number|null,
 *   accept_url: string|null, variants: VariantChoice[], companions: CompanionChoice[]}} VariantList */
/** @typedef {{repo_id: string, page_url: string|null, downloads: number|null, parameter_count: number|null,
 *   likely_size_bytes: number|null, fit: string, is_here: boolean, is_gated: boolean, modified_at: string|null}} Suggestion */
/** @typedef {{id: string, repo_id: string, quantization: string|null, revision: string|null, commit_sha: string|null,
 *   architecture: string|null, parameter_count: number|null, context_length: number|null, size_bytes: number,
 *   file_count: number, state: string, verified_at_s: number|null, checked_at_s: number|null, has_update: boolean|null,
 *   registered_at_s: number, origin: string, folder: string, path: string, projector_path: string|null}} ModelItem */
/** @typedef {{models: ModelItem[], models_bytes: number, free_bytes: number|null, models_directory: string}} ModelList */
/** @typedef {{id: string, repo_id: string, quantization: string|null, outcome: string, total_bytes: number|null,
 *   bytes_per_second: number|null, took_s: number|null, ended_at_s: number, was_present: boolean, error: string}} PastItem */
/** @typedef {{path: string, reason: string}} KeptItem */
/** @typedef {{id: string, deleted: string[], freed_bytes: number, kept: KeptItem[], is_dry_run: boolean}} DeletionReport */
/** @typedef {{kind: "verify_progress", cid: string, id: string, done_bytes: number, total_bytes: number}} VerifyState */
/** @typedef {{path: string, verdict: string, wrong_ranges: [number, number][]|null, reason: string}} CheckedItem */
/** @typedef {{id: string, is_right: boolean, text: string, files: CheckedItem[]}} VerifyReport */
/** @typedef {{id: string, is_needed: boolean, text: string}} ModelAnswer */
/** @typedef {{program: string, text: string}} LoadingLines */
/** @typedef {import("@anywidget/types").AnyModel<{snapshot: PanelState, home: string}>} Model */

export {};
