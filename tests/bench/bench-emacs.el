;;; bench-emacs.el --- Plays a recorded run and measures  -*- lexical-binding: t; -*-

;;; Commentary:

;; Loaded by bench_emacs.py in an Emacs on a terminal.  Measures the time
;; from the request to the last event, and the longest piece of work that
;; Emacs does at once: one drawing, or one portion of the connection's output,
;; with garbage collection counted apart.

;;; Code:

(require 'json)
(require 'rlm)
(require 'rlm-client)

(defvar bench-block 0.0 "Longest piece of work, in seconds, without garbage collection.")
(defvar bench-gc 0.0 "Longest garbage collection, in seconds.")
(defvar bench-last nil "Whether the last event has come.")

(defun bench-timed (function &rest arguments)
  "Call FUNCTION with ARGUMENTS, and note how long it took."
  (let ((begun (float-time))
        (collected gc-elapsed))
    (prog1 (apply function arguments)
      (let ((gc (- gc-elapsed collected)))
        (setq bench-gc (max bench-gc gc)
              bench-block (max bench-block (- (float-time) begun gc)))))))

(defun bench-write (begun buffer)
  "Write what was measured since BEGUN of BUFFER, and end Emacs."
  (let ((file (getenv "BENCH_RESULT"))
        (json (json-encode
               (list (cons 'seconds (- (float-time) begun))
                     (cons 'block (* 1000 bench-block))
                     (cons 'gc (* 1000 bench-gc))
                     (cons 'size (if buffer (buffer-size buffer) 0))))))
    (write-region json nil (concat file "~") nil 'silent)
    (rename-file (concat file "~") file)
    (kill-emacs)))

(defun bench-drop (begun)
  "Receive the run's events and drop them; BEGUN is when that was asked for."
  (setq rlm-rpc-event-function
        (lambda (event)
          (when (equal (plist-get event :kind) "runEnded")
            (run-at-time 0 nil #'bench-write begun nil))))
  (rlm-rpc-request 'rlm/attach (list :runId (getenv "BENCH_RUN"))))

(defun bench-draw (begun)
  "Let the run be drawn; BEGUN is when that was asked for."
  (let ((buffer (rlm-client-open (list :runId (getenv "BENCH_RUN") :question "Bench?"))))
    (bench-wait begun buffer)))

(defun bench-wait (begun buffer)
  "Look until the run in BUFFER has ended; BEGUN is when it was asked for."
  (if (rlm-run-live-p (rlm-run-in-buffer buffer))
      (run-at-time 0.05 nil #'bench-wait begun buffer)
    (redisplay t)
    (bench-write begun buffer)))

(defun bench-start ()
  "Connect first, so that the start of the server isn't measured."
  (rlm-rpc-request
   'rlm/status nil
   :success (lambda (_)
              (advice-add 'rlm-trajectory--tick :around #'bench-timed)
              (advice-add 'jsonrpc--process-filter :around #'bench-timed)
              (garbage-collect)
              (run-at-time 0 nil
                           (if (equal (getenv "BENCH_DRAW") "1") #'bench-draw #'bench-drop)
                           (float-time)))))

(setq inhibit-startup-screen t
      rlm-transcript-directory nil)
(run-with-timer 0.3 nil #'bench-start)

(provide 'bench-emacs)
;;; bench-emacs.el ends here
