;;; bench-trajectory.el --- A run that streams, as it is felt  -*- lexical-binding: t; -*-

;;; Commentary:

;; Loaded by bench_trajectory.py in an Emacs on a terminal.  The events of a
;; log are given to a buffer at the rate of BENCH_RATE a second: at real pace
;; for its first and its last part, as fast as it goes between them.  What
;; Emacs has to do at once, with redisplay, is a block.  BENCH_WAY is `rlm',
;; `naive' (each piece is inserted and shown at once) or `comint'.

;;; Code:

(require 'json)
(require 'rlm)
(require 'rlm-client)
(require 'comint)

(defconst bench-rate (string-to-number (getenv "BENCH_RATE")))
(defconst bench-part (string-to-number (getenv "BENCH_PART")) "Events at real pace.")
(defconst bench-way (intern (getenv "BENCH_WAY")))

(defvar bench-log nil "Buffer with the lines of the log that wait.")
(defvar bench-left 0 "How many there are.")
(defvar bench-buffer nil "The buffer that they go to.")
(defvar bench-blocks nil "Milliseconds of each block, without garbage collection.")
(defvar bench-gcs nil "Milliseconds of each garbage collection.")
(defvar bench-results nil "What was measured.")

(defun bench-cpu ()
  "Return the seconds of processor time that Emacs has used."
  (float-time (get-internal-run-time)))

(defun bench-block (function &rest arguments)
  "Call FUNCTION with ARGUMENTS, show the result, and note how long it took.
That is processor time: what other programs do meanwhile is not ours."
  (let ((begun (bench-cpu)) (collected gc-elapsed))
    (apply function arguments)
    (redisplay)
    (let ((gc (- gc-elapsed collected)))
      (when (> gc 0) (push (* 1000 gc) bench-gcs))
      (push (* 1000 (max 0 (- (bench-cpu) begun gc))) bench-blocks))))

(defun bench-next ()
  "Return the next event of the log."
  (setq bench-left (1- bench-left))
  (with-current-buffer bench-log
    (prog1 (json-parse-buffer :object-type 'plist :null-object nil :false-object :json-false)
      (forward-line))))

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

(defun bench-give (event)
  "Give EVENT to the buffer, in the way that is measured."
  (pcase bench-way
    ('rlm (rlm-trajectory-push bench-buffer event))
    ('naive (bench-block (lambda ()
                           (with-current-buffer bench-buffer
                             (goto-char (point-max))
                             (insert (bench-text event))))))
    ('comint (bench-block #'comint-output-filter (get-buffer-process bench-buffer)
                          (bench-text event)))))

(defun bench-receive ()
  "Return how busy Emacs is with receiving alone, in percent.
The same events come at the same pace, are parsed, and dropped."
  (let ((bench-give #'ignore) (left bench-left))
    (prog1 (alist-get 'busy (bench-play (/ bench-part 4)))
      (setq bench-left left)
      (with-current-buffer bench-log
        (goto-char (point-min))))))

(defvar bench-give #'bench-give "Function that gets each event.")

(defun bench-play (count)
  "Give COUNT events at real pace; return what was measured as an alist."
  (let* ((cpu (bench-cpu)) (begun (float-time)) (given 0) (gcs gcs-done)
         (timer (run-at-time 0 (/ 1.0 bench-rate)
                             (lambda ()
                               (while (and (< given count) (> bench-left 0)
                                           (< given (* bench-rate (- (float-time) begun))))
                                 (setq given (1+ given))
                                 (funcall bench-give (bench-next)))))))
    (setq bench-blocks nil bench-gcs nil)
    (while (and (< given count) (> bench-left 0))
      (sit-for 0.2))
    (cancel-timer timer)
    (let ((used (- (bench-cpu) cpu))
          (sorted (sort (copy-sequence bench-blocks) #'<)))
      (list (cons 'busy (/ (* 100 used) (- (float-time) begun)))
            (cons 'chunk (/ (* 1000 used) given))
            (cons 'p99 (or (nth (floor (* 0.99 (length sorted))) sorted) 0))
            (cons 'block (or (car (last sorted)) 0))
            (cons 'over (seq-count (lambda (ms) (> ms 16)) sorted))
            (cons 'gc (if bench-gcs (apply #'max bench-gcs) 0))
            (cons 'gcs (- gcs-done gcs))
            (cons 'seconds (- (float-time) begun))))))

(defun bench-hurry (count)
  "Give events until COUNT are left, as fast as it goes."
  (while (> bench-left count)
    (dotimes (_ 500)
      (when (> bench-left count)
        (pcase bench-way
          ('rlm (rlm-trajectory-push bench-buffer (bench-next)))
          ('naive (with-current-buffer bench-buffer
                    (goto-char (point-max))
                    (insert (bench-text (bench-next)))))
          (_ (comint-output-filter (get-buffer-process bench-buffer)
                                   (bench-text (bench-next)))))))
    (when (eq bench-way 'rlm)
      (rlm-trajectory-flush bench-buffer)))
  (redisplay t)
  (garbage-collect))

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
       ;; What colours Python is loaded once in a session.
       (require 'python)
       (goto-char (point-min))
       (re-search-forward "^\\*\\* Iteration 90")
       (org-cycle)
       (re-search-forward "^\\*\\* Iteration 100")
       (beginning-of-line)
       (push (cons 'cycle (max (bench-time (lambda () (org-cycle)))
                               (bench-time (lambda () (org-cycle)))
                               (bench-time (lambda () (org-cycle)))))
             result)
       result))))

(defun bench-begin ()
  "Make the buffer that is measured."
  (setq bench-buffer
        (pcase bench-way
          ('rlm (rlm-trajectory-create "Bench?"))
          ('naive (with-current-buffer (get-buffer-create "*naive*")
                    (let ((org-modules-loaded t)) (org-mode))
                    (current-buffer)))
          (_ (let ((buffer (make-comint "bench" "cat")))
               (set-process-query-on-exit-flag (get-buffer-process buffer) nil)
               buffer))))
  (switch-to-buffer bench-buffer)
  (goto-char (point-max))
  (redisplay t))

(defun bench-run ()
  "Measure everything, write it down, and end Emacs."
  ;; One buffer is no burden to the garbage collector; thousands of events would be.
  (with-current-buffer (setq bench-log (generate-new-buffer " *log*"))
    (insert-file-contents (getenv "BENCH_LOG"))
    (setq bench-left (count-lines (point-min) (point-max))))
  (let ((receive (bench-receive)) first last)
    (bench-begin)
    (advice-add 'rlm-trajectory--tick :around #'bench-block)
    ;; What is loaded with the first text of a session does not count.
    (bench-play 200)
    (garbage-collect)
    (setq first (bench-play bench-part))
    (bench-hurry bench-part)
    (when (getenv "BENCH_PROFILE") (profiler-start 'cpu))
    (setq last (bench-play bench-part))
    (when (getenv "BENCH_PROFILE")
      (profiler-stop)
      (profiler-write-profile (profiler-cpu-profile) (getenv "BENCH_PROFILE")))
    (when (eq bench-way 'rlm)
      (advice-remove 'rlm-trajectory--tick #'bench-block)
      (rlm-trajectory-flush bench-buffer))
    (let ((file (getenv "BENCH_RESULT"))
          (json (json-encode
                 `((version . ,emacs-version) (receive . ,receive)
                   (size . ,(buffer-size bench-buffer))
                   (first . ,first) (last . ,last)
                   (transcript . ,(when (eq bench-way 'rlm) (bench-transcript)))))))
      (write-region json nil (concat file "~") nil 'silent)
      (rename-file (concat file "~") file)
      (kill-emacs))))

(setq inhibit-startup-screen t rlm-transcript-directory nil rlm-notify-seconds nil)
(run-with-timer 0.3 nil #'bench-run)

(provide 'bench-trajectory)
;;; bench-trajectory.el ends here
