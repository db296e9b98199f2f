;;; bench-runs.el --- Lists many runs and measures  -*- lexical-binding: t; -*-

;;; Commentary:

;; Loaded by bench_runs.py in an Emacs on a terminal.  Measures the time from
;; a command to the drawn screen.

;;; Code:

(require 'json)
(require 'rlm)
(require 'rlm-runs)

(defun bench-done-p ()
  "Return non-nil once the list has its rows."
  (with-current-buffer (get-buffer rlm-runs--buffer)
    (and tabulated-list-entries (not rlm-table--asking))))

(defun bench-once (function)
  "Call FUNCTION, which lists runs; return the seconds until they are drawn."
  (garbage-collect)
  (set-buffer (or (get-buffer rlm-runs--buffer) (current-buffer)))
  (let ((begun (float-time)))
    (funcall function)
    (while (not (bench-done-p))
      (accept-process-output nil 0.001))
    (redisplay t)
    (- (float-time) begun)))

(defun bench-anew ()
  "List the runs as for the first time."
  (when (get-buffer rlm-runs--buffer)
    (kill-buffer rlm-runs--buffer))
  (rlm-runs))

(defun bench-bare (entries)
  "Return the seconds that a bare tabulated list of ENTRIES takes."
  (let ((format (buffer-local-value 'tabulated-list-format (get-buffer rlm-runs--buffer))))
    (garbage-collect)
    (let ((begun (float-time)))
      (switch-to-buffer (generate-new-buffer "bare"))
      (tabulated-list-mode)
      (setq tabulated-list-format format tabulated-list-entries entries)
      (tabulated-list-init-header)
      (tabulated-list-print)
      (redisplay t)
      (- (float-time) begun))))

(defun bench-rows (count)
  "Return COUNT rows, those of the list over and over."
  (let* ((rows (buffer-local-value 'tabulated-list-entries (get-buffer rlm-runs--buffer)))
         (more rows) found)
    (dotimes (_ count (nreverse found))
      (push (car more) found)
      (setq more (or (cdr more) rows)))))

(defun bench-median (times)
  "Return the median of TIMES."
  (nth (/ (length times) 2) (sort (copy-sequence times) #'<)))

(defun bench-run ()
  "Measure, and return the results as an alist."
  (rlm-rpc-call 'rlm/status nil)
  (let* ((cold (bench-once #'bench-anew))
         (times (mapcar (lambda (_) (bench-once #'bench-anew)) (number-sequence 1 9)))
         (sorted (bench-once (lambda () (rlm-runs-sort 5))))
         (searched (bench-once (lambda () (rlm-runs-filter "9997")))))
    (bench-anew)
    (while (not (bench-done-p)) (accept-process-output nil 0.001))
    (let ((count (length (buffer-local-value 'tabulated-list-entries
                                             (get-buffer rlm-runs--buffer)))))
      (list (cons 'cold cold) (cons 'warm (bench-median times)) (cons 'worst (apply #'max times))
            (cons 'sorted sorted) (cons 'searched searched) (cons 'rows count)
            (cons 'bare (bench-bare (bench-rows count)))
            (cons 'bareAll (bench-bare (bench-rows 10000)))
            (cons 'version emacs-version)))))

(defun bench-write ()
  "Measure, write what was measured, and end Emacs."
  (let ((file (getenv "BENCH_RESULT"))
        (json (json-encode (bench-run))))
    (write-region json nil (concat file "~") nil 'silent)
    (rename-file (concat file "~") file)
    (kill-emacs)))

(setq inhibit-startup-screen t)
(run-with-timer 0.3 nil #'bench-write)

(provide 'bench-runs)
;;; bench-runs.el ends here
