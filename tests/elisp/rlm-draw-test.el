;;; rlm-draw-test.el --- Drawing costs no more than it has to  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; What keeps Emacs idle while a run streams in: no faces for folded text, a
;; header line that is made once a change, and patience in a flood.

;;; Code:

(require 'rlm-test-lib)

(defun rlm-draw-test--buffer ()
  "Return a buffer with the recorded run, whose iterations are folded."
  (let ((buffer (rlm-trajectory-create "What?")))
    (mapc (lambda (event) (rlm-trajectory-push buffer event)) (rlm-test-recorded))
    (rlm-trajectory-flush buffer)
    buffer))

(defun rlm-draw-test--faces (beg end)
  "Return how many places between BEG and END have a face."
  (seq-count (lambda (place) (get-text-property place 'face)) (number-sequence beg (1- end))))

(ert-deftest rlm-draw-test-folded-text-has-no-faces ()
  (rlm-test-with
    (with-current-buffer (rlm-draw-test--buffer)
      (let ((inhibit-read-only t))
        (goto-char (point-min))
        (re-search-forward "^\\*\\* Iteration 1")
        (outline-show-all)
        (let* ((beg (line-end-position))
               (end (save-excursion (org-end-of-subtree t) (point))))
          (font-lock-set-defaults)
          (rlm-fold-fontify (point-min) (point-max))
          (should (> (rlm-draw-test--faces (1+ beg) end) 0))
          (rlm-fold-region beg end t 'outline)
          (rlm-fold--forget-faces beg end)
          (should (= 0 (rlm-draw-test--faces (1+ beg) end)))
          (rlm-fold-fontify (point-min) (point-max))
          ;; Font-lock begins with the line in which the fold ends.
          (should (= 0 (rlm-draw-test--faces (1+ beg) (save-excursion
                                                        (goto-char end)
                                                        (line-beginning-position)))))
          (should-not (text-property-any (1+ beg) end 'fontified t))
          (goto-char beg)
          (should (> (rlm-draw-test--faces (line-beginning-position) beg) 0))
          (rlm-fold-region beg end nil 'outline)
          (rlm-fold-fontify (point-min) (point-max))
          (should (> (rlm-draw-test--faces (1+ beg) end) 0)))))))

;;;; Drawn in one go, or not

(defconst rlm-draw-test--reply-without-text
  '((:kind "runStarted" :node "0" :question "What?" :rootModel "m" :subModel "m"
           :limits (:iterations 20))
    (:kind "iterationStarted" :node "0.1" :iteration 1)
    (:kind "replyDone" :node "0.1" :model "m" :seconds 1.0 :cells 0 :characters 0
           :usage (:promptTokens 1 :completionTokens 1 :cost 0.0))
    (:kind "notice" :node "0.1" :level "warning" :text "The reply held no code.")
    (:kind "iterationStarted" :node "0.2" :iteration 2))
  "Events of a run whose first reply is empty.")

(defun rlm-draw-test--text (events each)
  "Return what is drawn of EVENTS, one after the other if EACH."
  (let ((buffer (rlm-trajectory-create "What?")))
    (dolist (event (rlm-test-numbered events))
      (rlm-trajectory-push buffer (append '(:runId "r" :time 1.0) event))
      (when each
        (rlm-trajectory-flush buffer)))
    (rlm-trajectory-flush buffer)
    (rlm-test-buffer-text buffer)))

(ert-deftest rlm-draw-test-one-by-one-or-at-once ()
  (rlm-test-with
    (dolist (events (list (rlm-test-recorded) rlm-draw-test--reply-without-text))
      (should (equal (rlm-draw-test--text events t) (rlm-draw-test--text events nil))))))

(ert-deftest rlm-draw-test-anew-after-a-quit ()
  (rlm-test-with
    (let ((buffer (rlm-trajectory-create "What?"))
          (drawn (symbol-function 'rlm-draw)))
      (dolist (event (rlm-test-recorded))
        (rlm-trajectory-push buffer event))
      (should (eq 'quit
                  (cl-letf (((symbol-function 'rlm-draw)
                             (lambda (event)
                               (funcall drawn event)
                               (when (equal (plist-get event :kind) "replyDone")
                                 (signal 'quit nil)))))
                    (condition-case nil (rlm-trajectory-flush buffer) (quit 'quit)))))
      (rlm-trajectory-reset buffer)
      (dolist (event (rlm-test-recorded))
        (rlm-trajectory-push buffer event))
      (rlm-trajectory-flush buffer)
      (should (equal (rlm-test-buffer-text buffer)
                     (rlm-test-buffer-text (rlm-draw-test--buffer)))))))

(ert-deftest rlm-draw-test-newline-after-a-fold-has-the-face-before-it ()
  (with-temp-buffer
    (org-mode)
    (rlm-fold-light-fontification)
    (insert "* One\n\n#+begin_example\nx\n#+end_example\n* Two\n")
    (font-lock-set-defaults)
    (rlm-fold-fontify (point-min) (point-max))
    (goto-char (point-min))
    (let ((end (re-search-forward "#\\+end_example")))
      (should (get-text-property end 'face))
      (rlm-fold-region 6 end t 'outline)
      (rlm-fold-fontify (point-min) (point-max))
      (should-not (get-text-property end 'face)))))

(ert-deftest rlm-draw-test-heading-grows-outside-of-its-fold ()
  (rlm-test-with
    (with-current-buffer (rlm-trajectory-create "What?")
      (let* ((inhibit-read-only t)
             (node (rlm-node-add "0.1" (gethash "0" rlm-node-table) "Iteration 1")))
        (rlm-node-append node "Text that is hidden.\n")
        (rlm-node-fold node)
        (should (rlm-node-folded-p node))
        (rlm-node-retitle node ": more")
        (goto-char (rlm-node-start node))
        (should (looking-at-p "\\*\\* Iteration 1: more$"))
        (should-not (invisible-p (1- (line-end-position))))
        (should (rlm-node-folded-p node))))))

(ert-deftest rlm-draw-test-header-is-made-once-a-change ()
  (rlm-test-with
    (with-current-buffer (rlm-trajectory-create "What?")
      (let ((made 0))
        (cl-letf (((symbol-function 'rlm-header)
                   (lambda () (format "100%% %d" (cl-incf made)))))
          (rlm-header-update)
          (should (equal "100%% 1" (rlm-header-line)))
          (should (equal "100%% 1" (rlm-header-line)))
          (rlm-trajectory-say (current-buffer) "new")
          (should (equal "100%% 2" (rlm-header-line))))))))

(ert-deftest rlm-draw-test-patience ()
  (rlm-test-with
    (let ((rlm-flush-seconds 1)
          (buffer (rlm-trajectory-create "What?")))
      (with-current-buffer buffer
        (should (= 5 (rlm-trajectory--patience)))
        (switch-to-buffer buffer)
        (should (= 1 (rlm-trajectory--patience)))
        (dotimes (number (1+ rlm-trajectory--flood))
          (rlm-trajectory-push buffer (list :runId "r" :seq number :kind "void")))
        (rlm-trajectory-flush buffer)
        (should (= 5 (rlm-trajectory--patience)))
        (rlm-trajectory-push buffer (list :runId "r" :seq 99 :kind "void"))
        (rlm-trajectory-push buffer (list :runId "r" :seq (1+ rlm-trajectory--flood) :kind "void"))
        (rlm-trajectory-flush buffer)
        (should (= 1 (rlm-trajectory--patience)))))))

(ert-deftest rlm-draw-test-what-is-wanted-sooner-is-drawn-sooner ()
  (rlm-test-with
    (let ((one (rlm-trajectory-create "One?")) (two (rlm-trajectory-create "Two?")))
      (unwind-protect
          (progn
            (cancel-timer rlm-trajectory--timer)
            (rlm-trajectory--arm one 5000)
            (let ((late (timer--time rlm-trajectory--timer)))
              (rlm-trajectory--arm two 1000)
              (should (time-less-p (timer--time rlm-trajectory--timer) late)))
            (let ((soon (timer--time rlm-trajectory--timer)))
              (rlm-trajectory--arm one 3000)
              (should (equal soon (timer--time rlm-trajectory--timer))))
            (should (= 1 (seq-count (lambda (timer) (eq timer rlm-trajectory--timer)) timer-list))))
        (cancel-timer rlm-trajectory--timer)
        (setq rlm-trajectory--dirty nil)))))

(provide 'rlm-draw-test)
;;; rlm-draw-test.el ends here
