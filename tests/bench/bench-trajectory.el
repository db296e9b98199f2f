;;; bench-trajectory.el --- A run that streams, as it is felt  -*- lexical-binding: t; -*-

;;; Commentary:

;; Loaded by bench_trajectory.py in an Emacs on a terminal.  player.py, in the
;; place of the server, plays a recorded run over a real connection: at the
;; rate of BENCH_RATE a second for its first and its last part, as fast as it
;; goes between them.  BENCH_WAY is what becomes of the events: `rlm',
;; `text' (their text alone is inserted, as seldom as rlm draws), `pieces' (rlm,
;; but the player joins nothing), `naive' (each piece is inserted and shown at
;; once) or `comint'.  What Emacs has to do at once,
;; with redisplay, is a block.

;;; Code:

(require 'json)
(require 'rlm)
(require 'rlm-client)

(defconst bench-rate (string-to-number (getenv "BENCH_RATE")))
(defconst bench-part (string-to-number (getenv "BENCH_PART")) "Events at real pace.")
(defconst bench-events (string-to-number (getenv "BENCH_EVENTS")) "All that there are.")
(defconst bench-way (intern (getenv "BENCH_WAY")))
(defconst bench-rlm (memq bench-way '(rlm pieces)))

(defvar bench-buffer nil "The buffer that they go to.")
(defvar bench-blocks nil "Milliseconds of each block, without garbage collection.")
(defvar bench-gcs nil "Milliseconds of each garbage collection.")

(defun bench-cpu ()
  "Return the seconds of processor time that Emacs has used."
  (float-time (get-internal-run-time)))

(defun bench-timed (function &rest arguments)
  "Call FUNCTION with ARGUMENTS, and note how long it took.
That is processor time: what other programs do meanwhile is not ours."
  (let ((begun (bench-cpu)) (collected gc-elapsed))
    (prog1 (apply function arguments)
      (let ((gc (- gc-elapsed collected)))
        (when (> gc 0) (push (* 1000 gc) bench-gcs))
        (push (* 1000 (max 0 (- (bench-cpu) begun gc))) bench-blocks)))))

(defun bench-block (function &rest arguments)
  "Call FUNCTION with ARGUMENTS, show the result, and note how long it took."
  (bench-timed (lambda ()
                 (apply function arguments)
                 ;; It would run what jsonrpc.el has put off, within this, and that again.
                 (let ((timer-list nil))
                   (redisplay)))))

(defun bench-text (event)
  "Return what a naive client would insert for EVENT."
  (pcase (plist-get event :kind)
    ("iterationStarted" (format "\n** Iteration %d\n" (plist-get event :iteration)))
    ((or "replyDelta" "output") (plist-get event :text))
    ("cellStarted" "\n#+begin_src python\n")
    ("cellDone" "#+end_src\n")
    ("subcallStarted" (concat "\n*** Sub-call\n" (plist-get event :prompt)))
    ("subcallDone" (plist-get event :answer))
    (_ "")))

(defun bench-insert (text)
  "Insert TEXT at the end of the buffer, and show it."
  (bench-block (lambda ()
                 (with-current-buffer bench-buffer
                   (goto-char (point-max))
                   (insert text)))))

(defvar bench-collected nil "Texts that wait to be inserted, newest first.")

(defun bench-collect (text)
  "Insert TEXT, with others, half a second after the first of them."
  (unless bench-collected
    (run-at-time (* 5 rlm-flush-seconds) nil
                 (lambda ()
                   (bench-insert (apply #'concat (nreverse bench-collected)))
                   (setq bench-collected nil))))
  (push text bench-collected))

(defun bench-give (event)
  "Give EVENT to the buffer, in a way that is not ours."
  (pcase bench-way
    ('comint (bench-block 'comint-output-filter (get-buffer-process bench-buffer)
                          (bench-text event)))
    ('text (bench-collect (bench-text event)))
    (_ (bench-insert (bench-text event)))))

(defvar bench-answered nil "Time of the newest answer.")

(defun bench-ask (method &optional params)
  "Ask the player METHOD with PARAMS, and wait, as one who looks at the run.
Each wait shows what there is, so they are few."
  (let (result)
    (rlm-rpc-request method params :timeout 'never
                     :success (lambda (value)
                                (setq result (list value) bench-answered (float-time)))
                     :error (lambda (problem) (error "%S" problem)))
    (while (not result)
      (sit-for 1))
    (while rlm-trajectory--dirty
      (sit-for 0.5))
    (car result)))

(defun bench-play (count &optional fast)
  "Let COUNT events come at real pace; return what was measured as an alist.
If FAST, they come as fast as it goes."
  (setq bench-blocks nil bench-gcs nil)
  (let* ((cpu (bench-cpu)) (begun (float-time)) (gcs gcs-done)
         (given (bench-ask 'bench/play
                           (list :count count :rate (if fast 0 bench-rate)
                                 :join (if (memq bench-way '(rlm text)) t :json-false))))
         (used (- (bench-cpu) cpu))
         (seconds (- bench-answered begun))
         (sorted (sort (copy-sequence bench-blocks) #'<)))
    (list (cons 'busy (/ (* 100 used) seconds))
          (cons 'chunk (/ (* 1000 used) given))
          (cons 'p99 (or (nth (floor (* 0.99 (length sorted))) sorted) 0))
          (cons 'block (or (car (last sorted)) 0))
          (cons 'over (seq-count (lambda (ms) (> ms 16)) sorted))
          (cons 'gc (if bench-gcs (apply #'max bench-gcs) 0))
          (cons 'gcs (- gcs-done gcs)))))

(defun bench-receive ()
  "Return how busy Emacs is with receiving alone, in percent.
The same events come over the same connection, and are dropped."
  (let ((rlm-rpc-event-function #'ignore))
    (prog1 (alist-get 'busy (bench-play (/ bench-part 2)))
      (bench-ask 'bench/rewind))))

(defun bench-time (function)
  "Return the milliseconds that FUNCTION takes, with redisplay, without collection.
That is processor time, as for a block."
  (garbage-collect)
  (let ((gc-cons-threshold most-positive-fixnum) (begun (bench-cpu)))
    (funcall function)
    (redisplay t)
    (* 1000 (- (bench-cpu) begun))))

(defun bench-transcript ()
  "Measure a transcript of ten megabytes, and folding."
  (let* ((file (expand-file-name "ten.org" (getenv "HOME")))
         (text (with-current-buffer bench-buffer (buffer-string)))
         (org-modules-loaded t))
    (with-temp-file file
      (while (< (buffer-size) 10e6)
        (insert text)))
    (append
     (list (cons 'fold (bench-time (lambda ()
                                     (with-current-buffer bench-buffer (rlm-browse-fold 2))))))
     (let ((inhibit-message t) (large-file-warning-threshold nil) result)
       (push (cons 'open (bench-time (lambda () (find-file file)))) result)
       ;; What colours Python, and colours themselves, are made ready once in a session.
       (goto-char (point-min))
       (re-search-forward "^\\*\\* Iteration 90")
       (org-cycle)
       (redisplay t)
       (re-search-forward "^\\*\\* Iteration 100")
       (beginning-of-line)
       (let ((times (mapcar (lambda (_) (bench-time #'org-cycle)) '(children subtree folded))))
         (push (cons 'unfold (max (nth 0 times) (nth 1 times))) result)
         (push (cons 'cycle (nth 2 times)) result))
       result))))

(defun bench-begin ()
  "Make the buffer that is measured."
  (setq bench-buffer
        (pcase bench-way
          ((or 'text 'naive) (with-current-buffer (get-buffer-create "*text*")
                               (let ((org-modules-loaded t)) (org-mode))
                               (current-buffer)))
          ('comint (let ((buffer (progn (require 'comint) (make-comint "bench" "cat"))))
                     (set-process-query-on-exit-flag (get-buffer-process buffer) nil)
                     buffer))
          (_ (rlm-client-adopt-new (getenv "BENCH_RUN") nil "Bench?"))))
  (unless bench-rlm
    (setq rlm-rpc-event-function #'bench-give))
  (switch-to-buffer bench-buffer)
  (goto-char (point-max))
  (redisplay t))

(defun bench-run ()
  "Measure everything, write it down, and end Emacs."
  (bench-ask 'rlm/status)
  (let ((receive (bench-receive)) first last)
    (bench-begin)
    (advice-add 'jsonrpc--process-filter :around #'bench-timed)
    (advice-add 'rlm-trajectory--tick :around #'bench-block)
    ;; What is loaded with the first text of a session does not count.
    (bench-play 200)
    (garbage-collect)
    (setq first (bench-play bench-part))
    (bench-play (- bench-events 200 (* 2 bench-part)) t)
    (redisplay t)
    (garbage-collect)
    (when (getenv "BENCH_PROFILE") (profiler-start 'cpu))
    (setq last (bench-play bench-part))
    (when (getenv "BENCH_PROFILE")
      (profiler-stop)
      (profiler-write-profile (profiler-cpu-profile) (getenv "BENCH_PROFILE")))
    (advice-remove 'jsonrpc--process-filter #'bench-timed)
    (advice-remove 'rlm-trajectory--tick #'bench-block)
    (let ((file (getenv "BENCH_RESULT"))
          (json (json-encode
                 `((version . ,emacs-version) (receive . ,receive)
                   (size . ,(buffer-size bench-buffer))
                   (first . ,first) (last . ,last)
                   (transcript . ,(when bench-rlm (bench-transcript)))))))
      (write-region json nil (concat file "~") nil 'silent)
      (rename-file (concat file "~") file)
      (kill-emacs))))

(setq inhibit-startup-screen t rlm-transcript-directory nil rlm-notify-seconds nil
      rlm-server-command (split-string-and-unquote (getenv "BENCH_PLAYER")))
(run-with-timer 0.3 nil #'bench-run)

(provide 'bench-trajectory)
;;; bench-trajectory.el ends here
